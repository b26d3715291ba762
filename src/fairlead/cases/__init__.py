"""Treatment cases: from plan, CT and delivery logs on disk to a verified dose."""
