-- What new members see of a group whose history is shown from the start: nothing that the one who set it so may not see.
ALTER TABLE chat_group
    ADD COLUMN history_floor BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'with history_from_start: nothing at or below is shown to new members';
