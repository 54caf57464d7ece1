"""The workers and the command line by name: their queues, their logins at the broker, what they own and may ask for."""

DEP_ASSIGNER = "dep_assigner"
MAILBOX_REENCRYPTOR = "mailbox_reencryptor"
SITE_REENCRYPTOR = "site_reencryptor"
TIK_CACHE_REFRESHER = "tik_cache_refresher"
ALERT_EMITTER = "alert_emitter"
RECOVERY_HANDLER = "recovery_handler"
AUDIT_SEALER = "audit_sealer"

OPERATOR = "operator"  # the command line: it asks for things, and never tells facts
CUSTODIAN = TIK_CACHE_REFRESHER  # the worker that hosts it
COLLECTOR = "@collector"  # in the inbox, whoever keeps dead letters; no worker can have this name

WORKERS = frozenset(
    {
        DEP_ASSIGNER,
        MAILBOX_REENCRYPTOR,
        SITE_REENCRYPTOR,
        TIK_CACHE_REFRESHER,
        ALERT_EMITTER,
        RECOVERY_HANDLER,
        AUDIT_SEALER,
    }
)
