-- What a group shows beside its name.
ALTER TABLE chat_group
    ADD COLUMN notice VARCHAR(1024) NOT NULL DEFAULT '',
    ADD COLUMN meta VARCHAR(2048) NOT NULL DEFAULT '' COMMENT 'a JSON object, as it was sent; empty: none is set';
