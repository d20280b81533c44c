-- The change feed: a row for each transaction that changed a timeline, a group or a profile, written by that transaction.
-- Rows are removed when they are old.
CREATE TABLE feed_change (
    shard SMALLINT UNSIGNED NOT NULL,
    position BIGINT UNSIGNED NOT NULL COMMENT 'from 1, without gaps',
    written_at BIGINT NOT NULL COMMENT 'ms since 1970',
    body MEDIUMBLOB NOT NULL COMMENT 'JSON',
    PRIMARY KEY (shard, position)
) ENGINE = InnoDB;
