"""Projects, members, users, their credentials, and the question they answer: may this caller do that?"""
