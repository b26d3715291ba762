"""What the registry schemas cannot tell about AWS types: references, equality, secrets."""
