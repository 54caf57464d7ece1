# The provider's OpenBao in docker-compose.yml, with every availability key. All but the engine and who may do what is
# as in customer.hcl, and so is what that says of `unseal.key`.

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
  request "availability" {
    operation = "update"
    path      = "sys/mounts/availability"
    data      = { type = "transit" }
  }
  request "approle" {
    operation = "update"
    path      = "sys/auth/approle"
    data      = { type = "approle" }
  }
}

# It makes availability keys, and uses them where the decision table says so.
initialize "tik_cache_refresher" {
  request "policy" {
    operation = "update"
    path      = "sys/policies/acl/tik_cache_refresher"
    data = {
      policy = <<-POLICY
        path "availability/keys/+"    { capabilities = ["create", "read", "update"] }
        path "availability/encrypt/+" { capabilities = ["update"] }
        path "availability/decrypt/+" { capabilities = ["update"] }
      POLICY
    }
  }
  request "role" {
    operation = "update"
    path      = "auth/approle/role/tik_cache_refresher"
    data      = { role_id = "tik_cache_refresher", token_policies = ["tik_cache_refresher"], token_ttl = "1h", token_max_ttl = "24h" }
  }
  request "secret" {
    operation = "update"
    path      = "auth/approle/role/tik_cache_refresher/custom-secret-id"
    data      = { secret_id = { eval_source = "file", eval_type = "string", path = "/vault/tik_cache_refresher" } }
  }
}

# Nobody else destroys one.
initialize "recovery_handler" {
  request "policy" {
    operation = "update"
    path      = "sys/policies/acl/recovery_handler"
    data = {
      policy = <<-POLICY
        path "availability/keys/+"                     { capabilities = ["create", "read", "update", "delete"] }
        path "availability/keys/+/config"              { capabilities = ["update"] }
        path "availability/keys/+/soft-delete-restore" { capabilities = ["update"] }
        path "availability/encrypt/+"                  { capabilities = ["update"] }
        path "availability/decrypt/+"                  { capabilities = ["update"] }
      POLICY
    }
  }
  request "role" {
    operation = "update"
    path      = "auth/approle/role/recovery_handler"
    data      = { role_id = "recovery_handler", token_policies = ["recovery_handler"], token_ttl = "1h", token_max_ttl = "24h" }
  }
  request "secret" {
    operation = "update"
    path      = "auth/approle/role/recovery_handler/custom-secret-id"
    data      = { secret_id = { eval_source = "file", eval_type = "string", path = "/vault/recovery_handler" } }
  }
}
