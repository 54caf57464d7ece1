"""The workers by name: inbox keys, queue names and the owners of jobs."""

DEP_ASSIGNER = "dep_assigner"
MAILBOX_REENCRYPTOR = "mailbox_reencryptor"
TIK_CACHE_REFRESHER = "tik_cache_refresher"
