"""Which tests prove which line of contracts/auth.md: the 55 behaviours of §12 and the properties of §9.

A test is named `module::function`, the module being tests/auth/test_<module>.py, or `platform/…` for tests/platform.
tests/auth/test_contract_map.py fails where a line has no test, or a test named here does not exist.
"""

from __future__ import annotations

from collections.abc import Mapping

BEHAVIOURS: Mapping[int, tuple[str, ...]] = {
    1: ("signup::test_a_confirmed_user_signed_up_again_gets_a_lookalike",),
    2: ("signup::test_an_unconfirmed_user_signed_up_again_keeps_password_and_metadata",),
    3: ("otp::test_recovery_of_known_and_unknown_looks_the_same",),
    4: ("signup::test_data_lands_in_metadata_and_triggers_are_seen",),
    5: ("errors::test_body_too_large",),
    6: (
        "signin::test_what_is_refused",
        "signin::test_no_password_and_unknown_are_the_same_answer",
        "passwords::test_time_does_not_tell_who_is_registered",
    ),
    7: ("signin::test_a_weak_password_still_signs_in",),
    8: ("refresh::test_a_lost_answer_is_given_again_at_any_time",),
    9: ("refresh::test_two_generations_old_kills_the_family_and_the_kill_is_committed",),
    10: ("refresh::test_a_hundred_at_once_all_succeed_with_one_successor",),
    11: ("refresh::test_the_second_form_is_not_forged", "tokens::test_a_changed_token_is_no_token"),
    12: ("refresh::test_sessions_move_to_the_second_form_by_their_share",),
    13: (
        "refresh::test_a_timebox",
        "refresh::test_inactivity",
        "refresh::test_inactivity_counts_from_the_token_for_sessions_never_marked",
        "refresh::test_one_session_per_user",
        "refresh::test_one_session_per_user_and_tag",
    ),
    14: ("refresh::test_a_session_past_its_end",),
    15: (
        "refresh::test_low_assurance_of_users_with_a_second_factor_is_short",
        "refresh::test_high_assurance_is_not_capped",
    ),
    16: ("otp::test_an_unconfirmed_user_gets_the_confirmation_again",),
    17: (
        "verify::test_pkce_magic_and_recovery_links",
        "verify::test_a_pkce_code_from_the_mail_works_without_pkce",
    ),
    18: ("verify::test_a_wrong_code_a_wrong_verifier_or_both",),
    19: (
        "verify::test_a_link_leads_to_the_application_with_a_session",
        "verify::test_pkce_magic_and_recovery_links",
        "verify::test_a_bad_pkce_link_says_so_in_the_query_too",
    ),
    20: (
        "verify::test_a_bad_link_says_so_in_the_fragment_only",
        "verify::test_a_bad_pkce_link_says_so_in_the_query_too",
    ),
    21: (
        "redirects::test_a_redirect_is_allowed_or_refused",
        "redirects::test_loopback_sites_may_use_any_port",
    ),
    22: (
        "verify::test_a_secure_change_needs_both_codes_in_any_order",
        "verify::test_a_secure_change_by_links",
        "verify::test_a_secure_change_by_token_hashes",
        "verify::test_a_secure_change_with_pkce",
        "verify::test_one_side_twice_is_not_both",
    ),
    23: ("user::test_an_anonymous_user_becomes_permanent_by_proving_an_address",),
    24: ("verify::test_a_code_confirms_a_sign_up",),
    25: (
        "verify::test_a_code_confirms_a_sign_up",
        "verify::test_a_code_signs_a_known_user_in",
        "verify::test_the_email_type_works_as_a_link",
    ),
    26: ("verify::test_what_is_refused",),
    27: ("verify::test_banned_users_are_refused_at_every_kind",),
    28: ("verify::test_test_codes_and_their_end", "texting::test_a_test_number_needs_no_provider"),
    29: (
        "sql_hooks::test_text_messages_are_the_hooks",
        "sql_hooks::test_a_refused_text_message_leaves_nothing_behind",
    ),
    30: (
        "user::test_an_anonymous_user_becomes_permanent_at_once_with_autoconfirm",
        "user::test_an_anonymous_user_becomes_permanent_by_proving_an_address",
        "user::test_an_anonymous_user_becomes_permanent_by_phone",
        "user::test_an_anonymous_user_sets_no_password_alone",
        "signup::test_anonymous_sign_ins_have_a_limit_per_hour",
    ),
    31: (
        "user::test_a_new_password_logs_out_the_others_and_ends_every_code",
        "admin_users::test_a_new_password_signs_out_everywhere",
    ),
    32: (
        "user::test_reauthentication_is_asked_of_old_sessions_only",
        "user::test_a_nonce_works_once_and_not_for_long",
    ),
    33: (
        "user::test_the_current_password_is_asked_for",
        "user::test_the_current_password_is_not_asked_in_a_recovery",
    ),
    34: ("user::test_metadata_is_merged_and_null_takes_away",),
    35: (
        "user::test_autoconfirm_does_not_skip_that_for_permanent_users",
        "user::test_an_anonymous_user_becomes_permanent_at_once_with_autoconfirm",
    ),
    36: (
        "admin_users::test_pages_and_their_headers",
        "admin_users::test_sorting_and_filtering",
    ),
    37: (
        "admin_users::test_a_user_as_wanted",
        "admin_users::test_what_creating_refuses",
        "signin::test_imported_hashes_sign_in_and_are_replaced",
    ),
    38: ("admin_users::test_softly", "admin_users::test_softly_an_sso_user"),
    39: (
        "invite::test_links_for_somebody_new",
        "invite::test_links_for_a_known_user",
        "invite::test_links_for_a_change_of_address",
        "invite::test_where_links_lead",
    ),
    40: ("signup::test_an_invited_users_fields_do_not_leak",),
    41: ("oauth_flow::test_an_invitation_is_accepted_by_a_provider",),
    42: (
        "oauth_flow::test_an_unverified_address_is_asked_for_by_mail",
        "id_token_grant::test_an_unverified_address_is_asked_for_by_mail",
    ),
    43: (
        "oauth_flow::test_the_same_person_is_the_same_user",
        "oauth_flow::test_a_verified_address_joins_the_account_that_has_it",
        "oauth_flow::test_an_account_without_identities_is_joined_too",
        "oauth_flow::test_an_unverified_address_joins_nothing",
        "oauth_flow::test_several_accounts_with_one_address_are_not_guessed_about",
        "oauth_flow::test_linking_domains_keep_accounts_apart",
        "oauth_flow::test_single_sign_on_accounts_are_never_joined",
    ),
    44: (
        "identity_links::test_an_identity_belongs_to_one_user",
        "identity_links::test_the_last_identity_stays",
        "identity_links::test_a_proven_address_takes_the_place_of_the_lost_one",
        "identity_links::test_an_unproven_address_is_not_confirmed_by_unlinking",
        "identity_links::test_proven_addresses_go_before_older_unproven_ones",
        "identity_links::test_autoconfirm_keeps_a_promoted_address_confirmed",
    ),
    45: (
        "mfa::test_an_expired_challenge_is_gone",
        "mfa::test_wrong_codes_fail_and_the_challenge_stays",
        "mfa::test_another_users_factor_does_not_exist",
        "mfa::test_names_are_unique_per_user",
        "mfa::test_a_number_is_enrolled_once",
        "mfa::test_abandoned_factors_are_swept_at_the_next_enrolment",
        "mfa::test_removal_lowers_the_sessions_that_stood_on_the_factor",
    ),
    46: ("mfa::test_levels_belong_to_sessions_and_survive_refresh",),
    47: (
        "sql_hooks::test_a_hooks_refusal_reaches_the_caller_as_it_is",
        "sql_hooks::test_claims_that_are_incomplete_make_no_token",
        "hook_requests::test_the_published_example_of_a_signature",
        "hook_requests::test_a_request_is_signed_by_every_secret",
        "hook_requests::test_answers_that_stop_a_sign_up",
        "hook_requests::test_a_promised_return_is_tried_again_at_once",
        "hook_requests::test_a_failed_connection_is_tried_three_times",
        "hook_requests::test_a_slow_hook_is_given_up",
        "tokens::test_a_claim_of_the_wrong_type_is_named",
    ),
    48: (
        "access::test_asymmetric_keys_sign_and_are_published",
        "access::test_shared_secrets_are_not_published",
        "access::test_tokens_that_prove_nothing",
    ),
    49: (
        "access::test_the_word_bearer_in_any_case",
        "access::test_an_administrators_token_dies_with_its_session",
    ),
    50: ("service::test_by_a_named_header", "shared_limits::test_two_nodes_together_let_through_what_one_would"),
    51: ("errors::test_the_version_is_read_by_exact_day",),
    52: (
        "oauth_server::test_nobody_is_redirected_to_an_unproven_place",
        "oauth_server::test_only_our_own_pages_decide",
        "oauth_server::test_consent_covers_later_requests",
        "oauth_server::test_an_authorization_belongs_to_who_looks_first",
        "oauth_server::test_expiry_is_remembered",
        "oauth_server::test_a_code_is_traded_once",
        "oauth_server::test_shared_secrets_sign_no_id_tokens",
    ),
    53: (
        "passwords::test_other_hashes_are_refused_and_fit_nothing",
        "passwords::test_known_hashes_are_verified",
        "codes::test_codes_have_their_length_with_leading_zeros",
    ),
    54: (
        "web3_messages::test_place_and_time_are_judged",
        "web3_messages::test_faulty_messages_are_refused",
        "web3_messages::test_solana_signatures_prove_the_address",
        "web3_messages::test_ethereum_signatures_recover_the_address",
    ),
    55: (
        "platform/config_auth::test_lengths_and_durations_have_floors",
        "platform/config_auth::test_hooks",
        "hook_requests::test_secrets_that_cannot_sign",
        "platform/config_auth::test_character_sets_with_escaped_colons",
    ),
}

PROPERTIES: Mapping[str, tuple[str, ...]] = {
    "enumeration: signup": ("signup::test_a_confirmed_user_signed_up_again_gets_a_lookalike",),
    "enumeration: recover, resend": (
        "otp::test_recovery_of_known_and_unknown_looks_the_same",
        "otp::test_resending_to_nobody_looks_like_success",
    ),
    "enumeration: password": (
        "signin::test_no_password_and_unknown_are_the_same_answer",
        "passwords::test_time_does_not_tell_who_is_registered",
        "signin::test_banned_is_told_only_to_who_knows_the_password",
    ),
    "enumeration: otp create_user=false": ("otp::test_nobody_is_created_when_that_is_not_wanted",),
    "OTP single use": (
        "verify::test_a_code_works_once_and_takes_every_other_with_it",
        "verify::test_of_many_at_once_one_wins",
        "verify::test_an_old_code_is_expired",
        "user::test_a_new_password_logs_out_the_others_and_ends_every_code",
    ),
    "OTP guessing": (
        "verify::test_ten_wrong_codes_are_enough",
        "mfa::test_verification_is_limited_per_user_whatever_the_address",
    ),
    "PKCE binding": (
        "verify::test_a_wrong_code_a_wrong_verifier_or_both",
        "verify::test_of_many_exchanges_one_wins",
        "oauth_flow::test_a_state_counts_once",
    ),
    "CSRF state": (
        "oauth_flow::test_faults_of_the_state_go_to_the_site",
        "oauth_flow::test_a_state_of_another_kind_of_flow_is_unknown",
        "oauth_flow::test_a_state_dies_with_its_time",
    ),
    "nonce": ("id_token_grant::test_nonces", "id_token_grant::test_nonces_can_be_skipped"),
    "open redirect": (
        "redirects::test_a_redirect_is_allowed_or_refused",
        "redirects::test_the_first_allowed_candidate_wins",
        "verify::test_a_link_does_not_leave_the_site",
        "oauth_flow::test_a_refused_target_becomes_the_site",
    ),
    "host header": ("invite::test_where_links_lead",),
    "pre-account takeover": ("oauth_flow::test_nobody_waits_in_an_account_for_its_owner",),
    "email promotion": (
        "identity_links::test_an_unproven_address_is_not_confirmed_by_unlinking",
        "identity_links::test_a_proven_address_takes_the_place_of_the_lost_one",
    ),
    "refresh replay": (
        "refresh::test_two_generations_old_kills_the_family_and_the_kill_is_committed",
        "refresh::test_two_steps_behind_ends_the_session_of_the_second_form",
        "refresh::test_a_hundred_at_once_all_succeed_with_one_successor",
        "refresh::test_a_lost_answer_is_given_again_at_any_time",
    ),
    "MFA step-up": (
        "mfa::test_the_refresh_token_from_before_cannot_give_the_stronger_session",
        "mfa::test_proof_ends_weaker_sessions_and_unproven_factors",
        "mfa::test_a_challenge_is_bound_to_the_address_it_was_asked_from",
    ),
    "MFA bypass": (
        "user::test_with_a_second_factor_the_account_changes_at_aal2_only",
        "mfa::test_a_second_factor_needs_aal2_to_be_joined_or_removed",
        "passkeys::test_whoever_has_a_second_factor_shows_it_first",
    ),
    "banned": (
        "signin::test_banned_is_told_only_to_who_knows_the_password",
        "refresh::test_a_banned_user_is_not_refreshed",
        "verify::test_banned_users_are_refused_at_every_kind",
        "access::test_a_banned_users_live_token_is_refused_everywhere",
        "oauth_flow::test_a_banned_user_stays_out",
        "passkeys::test_users_who_may_not_come_in",
    ),
    "admin token revocation": (
        "access::test_an_administrators_token_dies_with_its_session",
        "access::test_an_administrators_token_dies_when_its_session_times_out",
    ),
    "alg confusion": (
        "access::test_tokens_that_prove_nothing",
        "access::test_a_public_key_is_no_shared_secret",
        "access::test_shared_secrets_are_not_published",
    ),
    "reserved provider params": ("oauth_flow::test_reserved_parameters_are_ours",),
    "OAuth code replay": (
        "oauth_server::test_a_code_is_traded_once",
        "oauth_flow::test_parallel_exchanges_of_one_code_give_one_session",
    ),
    "secrets never serialised": (
        "signin::test_no_secret_is_ever_shown",
        "mfa::test_administrators_see_change_and_remove_factors",
        "custom_providers::test_an_oauth2_provider_is_kept_and_shown_without_its_secret",
    ),
    "SSRF": (
        "custom_providers::test_an_issuer_must_be_public",
        "custom_providers::test_private_addresses_can_be_allowed",
        "saml::test_what_creating_refuses",
        "platform/outgoing::test_private_addresses_are_not_public",
        "platform/outgoing::test_a_name_is_pinned_to_the_checked_address",
        "platform/outgoing::test_a_redirect_to_a_private_address_is_refused",
    ),
    "reauthentication": (
        "user::test_reauthentication_is_asked_of_old_sessions_only",
        "user::test_a_nonce_works_once_and_not_for_long",
    ),
    "resource exhaustion": (
        "errors::test_body_too_large",
        "passwords::test_other_hashes_are_refused_and_fit_nothing",
        "passwords::test_the_event_loop_goes_on_while_passwords_are_hashed",
    ),
}

ATTACKS: Mapping[str, tuple[str, ...]] = {
    "forged, expired, none-alg and kid-confused tokens": (
        "access::test_tokens_that_prove_nothing",
        "access::test_an_expired_token",
    ),
    "mass assignment": (
        "signup::test_nobody_gives_themselves_rights",
        "user::test_app_metadata_is_not_the_users_to_change",
    ),
    "header injection": (
        "codes::test_malformed_lookalike_and_injecting_addresses_are_refused",
        "service::test_links_in_mails_cannot_smuggle_headers",
        "platform/smtp::test_no_value_adds_a_header",
        "mailing::test_a_projects_own_template",
    ),
    "homographs and unicode": ("codes::test_malformed_lookalike_and_injecting_addresses_are_refused",),
    "session fixation": ("refresh::test_signing_in_again_is_another_session",),
    "PKCE downgrade": (
        "verify::test_a_pkce_sign_up_end_to_end",
        "codes::test_half_or_malformed_challenges_are_refused",
    ),
    "template injection": (
        "mail_templates::test_what_a_user_calls_herself_is_no_template",
        "mail_templates::test_a_value_is_escaped_for_its_place",
        "inbox::test_pages_run_nothing_of_a_message",
    ),
    "mail and its server": (
        "mailing::test_a_mail_server_gets_each_mail",
        "mailing::test_each_notification_arrives",
        "mailing::test_a_dead_server_leaves_nothing_behind",
    ),
    "captcha": (
        "shared_limits::test_nothing_goes_without_a_captcha",
        "shared_limits::test_what_needs_no_captcha",
    ),
    "oversized metadata": ("errors::test_body_too_large",),
    "SAML: wrapped, truncated, replayed and unsigned assertions": (
        "saml_assertion::test_wrapping_a_signed_assertion_never_gives_the_forged_one",
        "saml_assertion::test_wrapping_a_signed_response_never_gives_the_forged_one",
        "saml_assertion::test_comments_do_not_cut_names",
        "saml_assertion::test_no_signature_proves_nothing",
        "saml_assertion::test_document_types_are_refused",
        "saml::test_an_assertion_signs_in_once",
        "saml::test_an_answer_to_another_request_is_refused",
    ),
}
"""What the issue asks for beyond §9."""
