"""What a person should be told: notifications, numbered per account so that each has one id for ever."""

from msgspec.structs import replace

from schemas.notification import NOTIFICATION_VERSION, Notification
from schemas.state import AccountState
from services.engine.identity import short


def notify(
    account: AccountState,
    kind: str,
    detail: str,
    *,
    at_ms: int,
    subscriber_id: str | None = None,
    product_id: str | None = None,
    offering_id: str | None = None,
    bucket_id: str | None = None,
    percent: int | None = None,
    price_id: str | None = None,
    asks_for: str | None = None,
) -> tuple[AccountState, Notification]:
    """The account after, and the notification. Without `subscriber_id` it goes to the first member."""
    first_member = account.subscriber_ids[0] if account.subscriber_ids else account.account_id
    notification = Notification(
        version=NOTIFICATION_VERSION,
        notification_id=f"{short(account.account_id)}:{account.next_notification}",
        account_id=account.account_id,
        subscriber_id=subscriber_id or first_member,
        kind=kind,  # type: ignore[arg-type]
        at_ms=at_ms,
        product_id=product_id,
        offering_id=offering_id,
        bucket_id=bucket_id,
        percent=percent,
        price_id=price_id,
        asks_for=asks_for,
        detail=detail,
    )
    return replace(account, next_notification=account.next_notification + 1), notification
