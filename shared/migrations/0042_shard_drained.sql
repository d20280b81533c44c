-- Shards of an earlier layout whose queues are committed to their ends.
CREATE TABLE shard_drained (
    shard INT UNSIGNED NOT NULL,
    PRIMARY KEY (shard)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
