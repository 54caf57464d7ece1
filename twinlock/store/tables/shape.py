"""Which programs may work on this database; written by the migrations alone."""

from sqlalchemy import CheckConstraint, Column, Integer, String, Table

from twinlock.store.tables.base import metadata

# One row. A program that is older than the database goes on while `oldest` is a revision that it knows: everything
# since then only added what it need not know.
shape = Table(
    "shape",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("oldest", String(32), nullable=False),
    CheckConstraint("number = 1", name="single"),
)
