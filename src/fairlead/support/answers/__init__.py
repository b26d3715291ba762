"""Questions about an account, answered from what AWS says, by one loop with two kinds of models."""
