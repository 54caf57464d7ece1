# A customer's OpenBao in docker-compose.yml. It initialises itself at its first start, and nobody ever sees a root token.
# secrets.sh makes what lies in /vault. With `unseal.key` the server opens itself at every start: whoever has that file
# and the data has the keys. A customer's own installation seals with an HSM or a KMS, or is unsealed by people.

storage "raft" {
  path    = "/vault/data"
  node_id = "only"
}

listener "tcp" {
  address       = "0.0.0.0:8200"
  tls_cert_file = "/vault/server.pem"
  tls_key_file  = "/vault/server.key"
}

seal "static" {
  current_key_id = "1"
  current_key    = "file:///vault/unseal.key"
}

disable_mlock = true

initialize "engines" {
  request "transit" {
    operation = "update"
    path      = "sys/mounts/transit"
    data      = { type = "transit" }
  }
  request "approle" {
    operation = "update"
    path      = "sys/auth/approle"
    data      = { type = "approle" }
  }
}

# What the provider's custodians may do: see what a key is, wrap, and unwrap.
initialize "provider" {
  request "policy" {
    operation = "update"
    path      = "sys/policies/acl/provider"
    data = {
      policy = <<-POLICY
        path "transit/keys/+"    { capabilities = ["read"] }
        path "transit/encrypt/+" { capabilities = ["update"] }
        path "transit/decrypt/+" { capabilities = ["update"] }
      POLICY
    }
  }
}

initialize "tik_cache_refresher" {
  request "role" {
    operation = "update"
    path      = "auth/approle/role/tik_cache_refresher"
    data      = { role_id = "tik_cache_refresher", token_policies = ["provider"], token_ttl = "1h", token_max_ttl = "24h" }
  }
  request "secret" {
    operation = "update"
    path      = "auth/approle/role/tik_cache_refresher/custom-secret-id"
    data      = { secret_id = { eval_source = "file", eval_type = "string", path = "/vault/tik_cache_refresher" } }
  }
}

initialize "recovery_handler" {
  request "role" {
    operation = "update"
    path      = "auth/approle/role/recovery_handler"
    data      = { role_id = "recovery_handler", token_policies = ["provider"], token_ttl = "1h", token_max_ttl = "24h" }
  }
  request "secret" {
    operation = "update"
    path      = "auth/approle/role/recovery_handler/custom-secret-id"
    data      = { secret_id = { eval_source = "file", eval_type = "string", path = "/vault/recovery_handler" } }
  }
}

# The customer makes keys, takes them away, and closes the engine for a while; it neither wraps nor unwraps.
initialize "customer" {
  request "policy" {
    operation = "update"
    path      = "sys/policies/acl/customer"
    data = {
      policy = <<-POLICY
        path "transit/keys/+"                     { capabilities = ["create", "read", "update"] }
        path "transit/keys/+/rotate"              { capabilities = ["update"] }
        path "transit/keys/+/soft-delete"         { capabilities = ["delete"] }
        path "transit/keys/+/soft-delete-restore" { capabilities = ["update"] }
        path "sys/quotas/rate-limit/transit"      { capabilities = ["create", "update", "delete"] }
      POLICY
    }
  }
  request "role" {
    operation = "update"
    path      = "auth/approle/role/customer"
    data      = { role_id = "customer", token_policies = ["customer"], token_ttl = "1h", token_max_ttl = "24h" }
  }
  request "secret" {
    operation = "update"
    path      = "auth/approle/role/customer/custom-secret-id"
    data      = { secret_id = { eval_source = "file", eval_type = "string", path = "/vault/customer" } }
  }
}
