"""The contract both halves share: schema, migrations, pool and queries."""
