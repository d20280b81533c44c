-- The bytes of files in the store. Several files may have the same bytes: a forwarded file is a row of `file` more.
CREATE TABLE file_object (
    object_id CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    state TINYINT UNSIGNED NOT NULL COMMENT '0 the bytes are awaited, 1 they wait for a worker, 2 ready, 3 to be removed',
    size BIGINT UNSIGNED NOT NULL COMMENT 'bytes',
    content_type VARCHAR(64) NOT NULL,
    width INT UNSIGNED NULL COMMENT 'pixels, as it is shown',
    height INT UNSIGNED NULL,
    thumbhash VARCHAR(40) NULL COMMENT 'base64',
    thumb_type VARCHAR(16) NULL COMMENT 'media type of the small picture; NULL: there is none',
    part_size INT UNSIGNED NULL COMMENT 'bytes; NULL: it comes in one piece',
    upload_id VARCHAR(1024) NULL COMMENT 'of the S3 store, for an upload in parts',
    job_due BIGINT NULL COMMENT 'ms since 1970: when a worker is to look at the bytes; NULL: never again',
    job_attempts TINYINT UNSIGNED NOT NULL DEFAULT 0,
    KEY by_job (job_due)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
