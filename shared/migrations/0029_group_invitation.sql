-- Users who were to be added to a group and have not accepted yet.
CREATE TABLE group_invitation (
    user_id VARCHAR(64) NOT NULL,
    group_id VARCHAR(64) NOT NULL,
    invited_by VARCHAR(64) NOT NULL,
    created_at BIGINT NOT NULL COMMENT 'ms since 1970',
    PRIMARY KEY (user_id, group_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
