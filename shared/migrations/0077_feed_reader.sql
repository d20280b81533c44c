-- How far the gateways' own readers of the change feed have read each shard: webhooks and notifications. One gateway at a
-- time runs a reader of a shard, as long as its lease is not over.
CREATE TABLE feed_reader (
    name VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    shard SMALLINT UNSIGNED NOT NULL,
    position BIGINT UNSIGNED NOT NULL COMMENT 'the last row that is read to its end',
    event_index BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'how much of the next row is read',
    is_paused BOOLEAN NOT NULL DEFAULT FALSE,
    owner VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '' COMMENT 'the gateway that runs it',
    leased_until BIGINT NOT NULL DEFAULT 0 COMMENT 'ms since 1970, by the clock of the database',
    PRIMARY KEY (name, shard)
) ENGINE = InnoDB;
