"""What every table shares: metadata with named constraints, and column types valid on SQLite and PostgreSQL."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, Dialect, Index, Integer, MetaData, TypeDecorator, text
from sqlalchemy.dialects import postgresql

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows by itself only for INTEGER PRIMARY KEY.
Serial = BigInteger().with_variant(Integer(), "sqlite")
Json = JSON().with_variant(postgresql.JSONB(), "postgresql")


def partial(name: str, *columns: str, where: str) -> Index:
    """Return an index of the few rows that are looked for among many; queries have to say `where` without parameters.

    PostgreSQL finds it by what the condition means, SQLite by how it is written.
    """
    written = where.replace("IS false", "IS 0")
    return Index(name, *columns, sqlite_where=text(written), postgresql_where=text(where))


class UtcDateTime(TypeDecorator[datetime]):
    """Store an aware datetime as UTC: SQLite has no time zones and would hand back naive ones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Refuse a naive datetime: it would be read as another moment elsewhere."""
        if value is None:
            return None
        if value.utcoffset() is None:
            raise ValueError("a naive datetime can't be stored")
        return value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Return an aware datetime in UTC."""
        if value is None:
            return None
        aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        assert isinstance(aware, datetime)  # noqa: S101  # narrows Any for the type checker
        return aware
