"""Users in and out: from other services' exports, and as a file of our own."""
