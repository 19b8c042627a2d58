"""The built-in inbox: mails and text messages that no server or provider takes, to be read in a browser or by tests."""
