"""What must stay as it is, whatever is moved or renamed: takes, films, reports and workflows. See README.md here."""
