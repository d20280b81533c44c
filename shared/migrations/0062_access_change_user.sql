-- A change of what one user sees, without a change of the conversation's access version.
ALTER TABLE access_change
    ADD COLUMN user_id VARCHAR(64) NULL COMMENT 'the user who cleared the conversation; NULL: a change for all';
