"""What a policy and a row were made for, as data: told, read back, compared, remembered."""
