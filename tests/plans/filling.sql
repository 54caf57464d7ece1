-- What years of work leave behind. $mailboxes, $items of each, $tenants of which the first has half of the mailboxes,
-- $backlog rows of each table that lives from events. `filling.py` runs the statements one by one.

-- content

INSERT INTO tenants (id, name, trial, created_at)
SELECT 't' || i, 't' || i, false, now() FROM generate_series(0, $tenants - 1) i;

INSERT INTO policies
    (id, tenant_id, name, workload, mode, state, health, newest_generation, version, created_at)
SELECT 'p' || i, 't' || i, 'main', 'mailbox', 'standard', 'active', 'healthy', 1, 1, now()
FROM generate_series(0, $tenants - 1) i;

INSERT INTO policy_keys (policy_id, generation, commitment, created_at)
SELECT 'p' || i, 1, '\x00', now() FROM generate_series(0, $tenants - 1) i;

INSERT INTO root_keys (policy_id, slot, uri, identity, version)
SELECT 'p' || i, s, 'local://' || s || '/' || i, 'x', '1' FROM generate_series(0, $tenants - 1) i, unnest(ARRAY['a', 'b']) s;

INSERT INTO policy_key_copies (policy_id, generation, slot, uri, key_version, identity, ciphertext)
SELECT 'p' || i, 1, s, 'local://' || s || '/' || i, '1', 'x', '\x00'
FROM generate_series(0, $tenants - 1) i, unnest(ARRAY['a', 'b', 'availability']) s;

INSERT INTO availability_keys (policy_id, uri, state)
SELECT 'p' || i, 'local://availability/' || i, 'present' FROM generate_series(0, $tenants - 1) i;

INSERT INTO containers
    (id, tenant_id, workload, name, kind, licensed, policy_id, newest_generation, version, created_at)
SELECT lpad(i::text, 12, '0'), 't' || n, 'mailbox', 'm' || i || '@example.org', 'user', true, 'p' || n, 1, 1, now()
FROM (SELECT i, CASE WHEN i % 2 = 0 THEN 0 ELSE i % $tenants END AS n FROM generate_series(1, $mailboxes) i) m;

INSERT INTO container_keys
    (container_id, generation, policy_id, policy_key_generation, wrapped, commitment, item_count, encrypted_count,
     created_at)
SELECT id, 1, policy_id, 1, '\x00', '\x00', $items + 1, $items + 1, now() FROM containers;

INSERT INTO container_wraps (container_id, policy_id, generation, until) SELECT id, policy_id, 1, now() FROM containers;

INSERT INTO items
    (container_id, id, generation, version, kind, size, format, import_mac, occurrence, created_at, body)
SELECT c.id, lpad(n::text, 8, '0'), 1, 1, 'eml', 10, 'item-1', int8send(n), 0, now(), '\x00'
FROM containers c, generate_series(1::bigint, $items) n;

INSERT INTO files
    (container_id, id, path, generation, version, size, wrapped_key, content_mac, object_name, created_at)
SELECT id, 'f', '\x61', 1, 1, 10, '\x00', '\x00', 'o', now() FROM containers LIMIT $backlog;

INSERT INTO inbox (consumer, publisher, source, id, digest, at)
SELECT 'dep_assigner', 'local', 'urn:past', 'e' || i, sha256('x'), now() - interval '1 day' * (i % 20)
FROM generate_series(1, $backlog) i;

INSERT INTO requests
    (source, id, publisher, type, correlation, digest, accepted, outcome, answer, received_at, finished_at)
SELECT 'urn:past', 'e' || i, 'local', 'twinlock.move.requested.v1', 'c' || i, '\x00', true, 'done', '{}', now(), now()
FROM generate_series(1, $backlog) i;

INSERT INTO assignment_outcomes (job_id, container, outcome, reason, at)
SELECT 'l' || (i % 50), 'm' || i, 'assigned', '', now() - interval '1 day' * (i % 20)
FROM generate_series(1, $backlog) i;

INSERT INTO alerts
    (id, topic, kind, severity, audience, tenant, detail, state, times, first_seen, last_seen, resolved_at, version,
     changed_at)
SELECT 'a' || i, 'x' || i, 'k', 'info', 'customer', 't' || (i % $tenants), 'd', 'resolved', 1, at, at, at, 1, at
FROM (SELECT i, now() - interval '1 day' * (i % 20 + 1) AS at FROM generate_series(1, $backlog) i) a;

INSERT INTO alert_signals (topic, at, raises, severity, detail)
SELECT 'x' || (i / 3), now() - interval '1 day' * (i % 20), i % 2 = 0, 'info', 'd' FROM generate_series(1, $backlog) i;

INSERT INTO audit_entries (writer, sequence, at, kind, tenant_id, detail, mac)
SELECT 'w', i, now() - interval '1 second' * ($backlog - i), 'unwrap', 't' || (i % $tenants), '{}', sha256('x')
FROM generate_series(1, $backlog) i;

INSERT INTO audit_seals (number, writer, first, last, at, entries, head)
SELECT i, 'w', i, i, now(), i, '\x00' FROM generate_series(1, $backlog) i;

INSERT INTO audit_checkpoints (seal, at, statement, signature)
SELECT i, now(), '\x00', '\x00' FROM generate_series(1, $backlog) i;

INSERT INTO approvals
    (id, tenant_id, action, subject, state, statement, requested_at, expires_at, version)
SELECT 'a' || i, 't0', 'recover', 's', 'done', '\x00', now(), now() - interval '1 day', 1
FROM generate_series(1, $backlog) i;

INSERT INTO approval_steps (approval_id, step, version, approvals, at, announced)
SELECT 'a' || i, 'done', 1, 2, now(), true FROM generate_series(1, $backlog) i;

INSERT INTO revocations (policy_id, state, at, publisher, announced)
SELECT 'p' || i, 'revoked', now(), 'x', true FROM generate_series(1, $backlog) i;

INSERT INTO evidence (policy_id, slot, at)
SELECT 'p' || (i % $tenants), 'a', now() - interval '1 day' FROM generate_series(1, $backlog) i;

INSERT INTO taken_requests (caller, id, until)
SELECT 'mailbox_reencryptor', 'r' || i, now() + interval '1 hour' FROM generate_series(1, $backlog) i;

INSERT INTO superseded_objects (name, superseded_at) SELECT 'o' || i, now() FROM generate_series(1, $backlog) i;

INSERT INTO object_intents (name, expires_at)
SELECT 'n' || i, now() + interval '1 hour' FROM generate_series(1, $backlog) i;

INSERT INTO vault_operations (day, tenant_id, policy_id, vault, operation, count)
SELECT current_date - i % 300, 't0', 'p' || i, 'v', 'unwrap', 1 FROM generate_series(1, $backlog) i;

-- backlog

INSERT INTO jobs
    (id, worker, kind, tenant_id, container_id, policy_id, payload, total, done, not_before, trouble, fencing, turn,
     correlation, created_at, target_at)
SELECT 'reencrypt:' || id, 'mailbox_reencryptor', 'reencrypt', tenant_id, id, policy_id, '{}', 10, 0,
       now() - interval '1 hour', '', 1, 0, 'mass', now(), now()
FROM containers WHERE name LIKE 'm%@example.org';

INSERT INTO turns (worker, tenant_id, turn)
SELECT 'mailbox_reencryptor', 't' || i, i FROM generate_series(0, $tenants - 1) i;

INSERT INTO outbox (source, id, publisher, type, correlation, body, created_at, attempts)
SELECT 'urn:past', 'o' || i, 'local', 't', 'c' || i, '\x00', now(), 0 FROM generate_series(1, $backlog) i;

INSERT INTO deliveries (consumer, publisher, source, id, type, correlation, body, attempts, not_before)
SELECT 'webhook:w', 'local', 'urn:past', 'd' || i, 't', 'c' || i, '\x00', 0, now() - interval '1 day' * (i % 20)
FROM generate_series(1, $backlog) i;

INSERT INTO dead_letters (consumer, publisher, source, id, type, correlation, body, attempts, reason, at)
SELECT 'dep_assigner', 'local', 'urn:past', 'd' || i, 't', 'c' || i, '\x00', 5, 'why', now()
FROM generate_series(1, $backlog) i;
