ALTER TABLE group_member
    ADD COLUMN role TINYINT UNSIGNED NOT NULL DEFAULT 0 COMMENT '0 member, 1 admin, 2 owner',
    ADD COLUMN muted_until BIGINT NOT NULL DEFAULT 0 COMMENT 'ms since 1970',
    ADD COLUMN join_seq BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'the last number at the joining',
    ADD COLUMN floor_seq BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'nothing at or below is shown to it';
