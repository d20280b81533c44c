UPDATE chat_group SET members = (SELECT COUNT(*) FROM group_member m WHERE m.group_id = chat_group.group_id);
