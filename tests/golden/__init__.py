"""What must not change when code is moved or renamed: takes, films, reports and workflows. See README.md here."""
