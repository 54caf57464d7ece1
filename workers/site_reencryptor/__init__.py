"""The site re-encryptor: brings the sites of a geo under its new TIK, with every site key rewrapped."""
