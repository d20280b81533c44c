-- The key is "private_", the first user, a blank, the second user; notes to oneself are one row.
INSERT IGNORE INTO private_chat (user_id, conversation_id)
SELECT SUBSTRING_INDEX(SUBSTRING(conversation_id, 9), ' ', 1), conversation_id FROM conversation WHERE kind = 1
UNION ALL
SELECT SUBSTRING_INDEX(SUBSTRING(conversation_id, 9), ' ', -1), conversation_id FROM conversation WHERE kind = 1;
