"""The rating service: catalogue, subscriptions, ledger and the HTTP door for partners."""
