-- Read by group (membership checks) and by user (groups of someone who connects).
CREATE TABLE group_member (
    group_id VARCHAR(64) NOT NULL,
    user_id VARCHAR(64) NOT NULL,
    join_time BIGINT NOT NULL COMMENT 'ms since 1970',
    PRIMARY KEY (group_id, user_id),
    KEY groups_of_user (user_id, group_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
