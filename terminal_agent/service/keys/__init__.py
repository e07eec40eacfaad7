"""Master key sets: in files, in sealed credentials, or in a PKCS#11 token."""
