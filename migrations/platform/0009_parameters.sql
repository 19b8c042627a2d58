-- socle: superuser
-- Settings that projects change as the operator, as hosted projects may: dumps set session_replication_role, and
-- `alter role authenticator set pgrst.…`, `alter database … set app.settings.…` configure the API.

grant set on parameter
  session_replication_role, log_min_messages, log_min_duration_statement, log_lock_waits, log_statement, log_temp_files,
  log_parameter_max_length, log_replication_commands, track_io_timing, track_functions, wal_compression,
  auto_explain.log_min_duration, auto_explain.log_analyze, auto_explain.log_buffers, auto_explain.log_format,
  auto_explain.log_level, auto_explain.log_nested_statements, auto_explain.log_settings, auto_explain.log_timing,
  auto_explain.log_triggers, auto_explain.log_verbose, auto_explain.log_wal, auto_explain.sample_rate,
  pg_stat_statements.max, pg_stat_statements.save, pg_stat_statements.track, pg_stat_statements.track_planning,
  pg_stat_statements.track_utility,
  pgrst.app_settings, pgrst.db_aggregates_enabled, pgrst.db_anon_role, pgrst.db_channel, pgrst.db_channel_enabled,
  pgrst.db_extra_search_path, pgrst.db_hoisted_tx_settings, pgrst.db_max_rows, pgrst.db_plan_enabled,
  pgrst.db_pre_config, pgrst.db_pre_request, pgrst.db_prepared_statements, pgrst.db_root_spec, pgrst.db_schemas,
  pgrst.db_timezone_enabled, pgrst.db_tx_end, pgrst.db_uri, pgrst.jwt_aud, pgrst.jwt_cache_max_lifetime,
  pgrst.jwt_role_claim_key, pgrst.jwt_secret, pgrst.jwt_secret_is_base64, pgrst.openapi_mode,
  pgrst.openapi_security_active, pgrst.openapi_server_proxy_uri, pgrst.server_cors_allowed_origins,
  pgrst.server_timing_enabled, pgrst.server_trace_header,
  app.settings.jwt_secret, app.settings.jwt_exp
to :"operator";
