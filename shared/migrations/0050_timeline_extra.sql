-- What only some messages have beside their content: a JSON object, see shared/src/message/extra.rs. NULL for a plain message.
ALTER TABLE timeline_message
    ADD COLUMN extra VARCHAR(9216) NULL COMMENT 'JSON: meta, mentions, the message that is changed or answered';
