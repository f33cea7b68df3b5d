"""What a configuration says, and which may be: its keys, its ranges, its parts and who goes with whom."""
