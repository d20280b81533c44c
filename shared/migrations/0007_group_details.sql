-- What a group is beyond its name, and whether it is too large for inboxes.
ALTER TABLE chat_group
    ADD COLUMN name VARCHAR(128) NOT NULL DEFAULT '',
    ADD COLUMN is_muted BOOLEAN NOT NULL DEFAULT FALSE COMMENT 'only owner and admins may send',
    ADD COLUMN is_dismissed BOOLEAN NOT NULL DEFAULT FALSE,
    ADD COLUMN history_from_start BOOLEAN NOT NULL DEFAULT TRUE COMMENT 'new members see what came before them',
    ADD COLUMN members INT UNSIGNED NOT NULL DEFAULT 0,
    ADD COLUMN is_large BOOLEAN NOT NULL DEFAULT FALSE COMMENT 'no inbox entries are written',
    ADD COLUMN large_until BIGINT NOT NULL DEFAULT 0 COMMENT 'ms since 1970: until then its head is merged into syncs';
