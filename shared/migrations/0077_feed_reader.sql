-- How far the gateways' own readers of the change feed have read each shard: webhooks and notifications. One gateway at a
-- time runs a reader of a shard, as long as its lease is not over. 0 is the time of what has not happened.
CREATE TABLE feed_reader (
    name VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    shard SMALLINT UNSIGNED NOT NULL,
    position BIGINT UNSIGNED NOT NULL COMMENT 'the last row that is read to its end',
    event_index BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'how much of the next row is read',
    is_paused BOOLEAN NOT NULL DEFAULT FALSE,
    owner VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '' COMMENT 'the gateway that runs it',
    leased_until BIGINT NOT NULL DEFAULT 0 COMMENT 'ms since 1970, by the clock of the database',
    failures INT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'since the position moved last',
    failing_since BIGINT NOT NULL DEFAULT 0 COMMENT 'ms since 1970',
    last_error VARCHAR(500) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '',
    last_error_at BIGINT NOT NULL DEFAULT 0 COMMENT 'ms since 1970',
    next_attempt_at BIGINT NOT NULL DEFAULT 0 COMMENT 'ms since 1970; 0: at once',
    last_success_at BIGINT NOT NULL DEFAULT 0 COMMENT 'ms since 1970',
    PRIMARY KEY (name, shard)
) ENGINE = InnoDB;
