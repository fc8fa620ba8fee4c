"""Train, attack, evaluate and export the three-way model of AAT++. Knows nothing of HTTP."""
