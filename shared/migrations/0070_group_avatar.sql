-- The file that is shown for a group; empty: none.
ALTER TABLE chat_group
    ADD COLUMN avatar CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '';
