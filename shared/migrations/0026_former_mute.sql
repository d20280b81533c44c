-- Mutes of users who are not in the group at the moment: whoever leaves and comes back is muted as before.
CREATE TABLE former_mute (
    group_id VARCHAR(64) NOT NULL,
    user_id VARCHAR(64) NOT NULL,
    muted_until BIGINT NOT NULL COMMENT 'ms since 1970',
    PRIMARY KEY (group_id, user_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
