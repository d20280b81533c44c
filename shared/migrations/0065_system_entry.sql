-- Entries about changes of groups that are not known to be in the timeline yet. Written with the change, and removed when
-- the entry is stored.
CREATE TABLE system_entry (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY COMMENT 'in the order of the changes of one group',
    group_id VARCHAR(160) NOT NULL,
    sender_id VARCHAR(64) NOT NULL,
    msg_id VARCHAR(64) NOT NULL,
    meta TEXT NOT NULL,
    created_at BIGINT NOT NULL COMMENT 'ms since 1970',
    KEY by_group (group_id, id),
    KEY by_age (created_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
