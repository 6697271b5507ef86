"""What a decoded picture is worth, and what one curve saves against another."""
