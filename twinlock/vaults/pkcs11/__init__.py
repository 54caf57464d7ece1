"""PKCS#11: keys on tokens, which vendors' libraries reach; each library runs in a process of its own."""
