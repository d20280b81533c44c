CREATE TABLE chat_group (
    group_id VARCHAR(64) NOT NULL,
    is_open BOOLEAN NOT NULL COMMENT 'whoever uses it joins',
    created_at BIGINT NOT NULL COMMENT 'ms since 1970',
    PRIMARY KEY (group_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
