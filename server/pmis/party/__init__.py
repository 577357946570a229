"""Parties: customers and vendors. Contacts and bank details are personal or protected, and kept in the vault."""
