-- Files that users have uploaded, or begun to upload.
CREATE TABLE file (
    file_id CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    object_id CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    uploader_id VARCHAR(64) NOT NULL,
    conversation_id VARCHAR(160) NULL COMMENT 'where it may be sent; NULL: an avatar',
    name VARCHAR(128) NOT NULL,
    state TINYINT UNSIGNED NOT NULL COMMENT '0 begun, 1 complete, 2 nobody sees it any more',
    created_at BIGINT NOT NULL COMMENT 'ms since 1970',
    avatars INT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'users and groups that show it',
    sweep_at BIGINT NULL COMMENT 'ms since 1970: when it goes unless it is used; NULL: it is used',
    KEY by_uploader (uploader_id, created_at),
    KEY by_object (object_id),
    KEY by_sweep (sweep_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
