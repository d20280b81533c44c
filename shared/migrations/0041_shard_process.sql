-- Which processes follow a change of the number of shards, and the state that each has applied.
CREATE TABLE shard_process (
    id VARCHAR(64) NOT NULL,
    role VARCHAR(16) NOT NULL,
    applied VARCHAR(255) NOT NULL,
    seen_at BIGINT NOT NULL COMMENT 'seconds since 1970, by the clock of the database',
    PRIMARY KEY (id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
