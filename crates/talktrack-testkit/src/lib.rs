//! Tools for tests: the conformance suite that every store must pass, a tracker under trial, a store in memory, and a
//! clock under the test's control.
//!
//! The tests of a store call [`conformance`] with a fresh [`Setup`] per check, or turn each check into a
//! test with [`for_each_conformance_check!`](crate::for_each_conformance_check), so that a failure is
//! reported by name.

#![expect(clippy::expect_used, reason = "a check fails by panicking")]

pub mod damage;
mod conversation;
mod identity;
mod progress;
mod session_life;
mod session_changes;
mod session_times;
mod ownership;
mod users;
mod lateness;
mod edits;
mod search;
mod paging;
mod accounts;
mod deletion;
mod stats;
mod trial;
mod setup;
mod manual_clock;
pub mod memory;

pub use manual_clock::ManualClock;
pub use setup::{PATIENCE, Setup, eventually};
pub use trial::Trial;

/// Calls the macro `$then` with the names of all checks, grouped by module:
/// `$then! { module { check, check } module { … } }`. Each check is an `async fn(Setup)` in
/// [`checks`].
#[macro_export]
macro_rules! for_each_conformance_check {
    ($then:ident) => {
        $then! {
            conversation {
                a_conversation_comes_back_byte_for_byte_in_order,
                every_optional_field_comes_back,
                what_was_left_out_is_null_or_its_default,
                system_messages_have_no_user_and_all_others_have_the_sessions,
                order_is_when_it_was_said_then_when_it_was_accepted,
                sessions_under_way_at_the_same_time_do_not_mix,
            }
            identity {
                ids_are_given_or_derived_or_minted,
                the_same_message_again_changes_nothing,
                the_same_message_again_after_a_restart_changes_nothing,
                other_content_under_a_taken_id_leaves_the_original,
                a_higher_revision_replaces_and_keeps_its_place,
                a_revision_to_a_system_message_has_no_user_and_back,
                a_lower_revision_that_comes_later_is_ignored,
                a_revision_that_overtook_the_first_draft_goes_to_its_place,
                a_revision_of_a_message_in_another_session_changes_nothing,
            }
            progress {
                a_message_in_progress_counts_when_a_revision_makes_it_final,
                a_discarded_message_is_kept_and_does_not_count,
                the_end_of_a_session_makes_final_what_is_in_progress,
                a_message_in_progress_that_reaches_an_ended_session_is_final_at_once,
                an_abandoned_session_has_nothing_in_progress,
                a_session_that_a_stop_left_open_has_nothing_in_progress,
            }
            session_life {
                a_session_starts_and_ends_with_its_figures,
                a_session_told_from_a_recording_keeps_its_times,
                a_session_known_by_a_name_keeps_it,
                ending_a_session_twice_changes_nothing,
                an_end_that_is_told_replaces_the_end_of_an_abandoned_session,
                a_session_that_starts_again_goes_on,
                a_start_that_does_not_resume_only_fills_in,
                a_session_goes_on_after_a_restart,
                session_metadata_are_merged_key_by_key,
                numbers_beyond_a_double_survive_a_merge_of_session_metadata,
                session_metadata_do_not_grow_without_bound,
                an_idle_session_is_abandoned_at_its_last_event,
                shutdown_ends_the_open_sessions,
                sessions_that_a_stop_left_open_are_abandoned_at_their_last_event,
            }
            session_changes {
                a_null_in_an_update_removes_a_key,
                dimensions_are_set_by_a_start_and_changed_by_updates,
                dimensions_beyond_the_limits_are_refused,
            }
            session_times {
                a_session_that_is_told_after_the_call_has_the_times_of_the_call,
                a_start_that_was_given_moves_down_by_a_day_at_most,
            }
            ownership {
                another_users_start_is_refused_while_the_session_is_in_memory,
                another_users_start_leaves_the_stored_session_as_it_is,
                another_users_update_and_end_leave_the_stored_session_as_it_is,
                another_users_update_and_end_do_not_wait_for_a_session,
                the_rightful_user_gets_the_session_after_anothers_start,
                a_user_who_looks_sees_own_sessions_and_every_message_in_them,
                a_users_token_revises_what_a_token_wrote_and_nothing_else,
                two_users_and_a_key_never_meet_under_one_message_id,
            }
            users {
                a_users_own_text_is_shown_wherever_the_user_is,
                no_list_takes_a_text_for_the_uuid_that_it_becomes,
                no_search_takes_a_text_for_the_uuid_that_it_becomes,
                no_record_of_a_text_changes_a_session_of_the_uuid_that_it_becomes,
                deleting_a_text_refuses_nothing_of_the_uuid_that_it_becomes,
            }
            lateness {
                a_late_message_within_the_grace_period_gets_the_sessions_user,
                a_late_message_after_the_grace_period_gets_the_sessions_user,
                a_late_message_after_a_restart_gets_the_sessions_user,
                a_message_long_after_an_end_that_nobody_spoke_takes_it_back,
                a_message_of_an_unknown_session_is_laid_aside_and_its_neighbours_are_stored,
                a_message_laid_aside_can_come_again_once_its_session_is_there,
                updating_or_ending_an_unknown_session_makes_none,
            }
            paging {
                messages_page_by_page_come_once_each_while_more_arrive,
                messages_of_one_moment_are_not_lost_between_pages,
                messages_are_read_backwards_from_the_end_or_from_any_message,
                sessions_page_by_page_come_newest_first_once_each_while_more_arrive,
                sessions_can_be_filtered_by_user_and_status,
                sessions_can_be_filtered_by_when_they_began,
                rows_are_found_by_their_ids,
                pages_of_large_rows_end_early_and_nothing_is_left_out,
                sessions_at_a_glance_show_the_last_words_and_how_often_somebody_was_interrupted,
            }
            search {
                what_was_said_is_found_by_its_words_newest_first,
                a_user_finds_what_was_said_in_own_sessions_only,
                hits_page_by_page_come_newest_first_once_each,
                a_page_of_hits_in_large_messages_ends_early_and_goes_on,
                a_revised_message_is_found_by_its_new_words_only,
                only_final_messages_are_found,
                what_was_said_before_a_restart_is_found,
                sessions_can_be_filtered_by_what_was_said_in_them,
                one_spelling_finds_the_others,
                every_query_has_an_answer,
            }
            stats {
                sessions_and_messages_are_counted_where_they_happened,
                percentiles_are_within_one_percent,
                what_was_measured_and_cut_short_by_a_revision_is_counted_once,
                only_final_messages_are_counted,
                an_end_that_comes_later_counts_where_the_session_began,
                a_late_arrival_is_counted_when_it_was_said,
                what_is_deleted_is_counted_no_more,
                what_was_counted_before_a_restart_stays_counted,
                a_users_own_figures_tell_of_no_other_user,
                a_range_is_made_of_whole_stretches,
            }
            accounts {
                what_was_said_in_the_future_stands_where_it_was_accepted,
                what_was_flushed_to_the_store_is_there,
                counts_and_last_events_are_those_of_the_rows,
                the_books_balance_after_everything,
                the_books_go_on_after_a_restart,
            }
            deletion {
                a_deleted_session_is_gone_with_its_messages_and_the_others_stay,
                deleting_a_session_again_removes_nothing,
                whatever_comes_of_a_deleted_session_is_refused_after_a_restart_too,
                what_was_accepted_before_a_deletion_goes_with_it,
                dead_letters_go_with_their_session,
                another_users_session_is_not_deleted_and_goes_on,
                a_user_who_deletes_a_session_that_is_not_there_is_refused_it_and_nobody_else_is,
                a_session_that_is_too_old_goes_and_may_begin_again,
                a_session_that_was_heard_of_since_is_spared,
            }
            edits {
                a_removed_message_is_gone_and_does_not_come_again,
                a_message_that_was_never_there_is_refused_once_it_was_removed,
                a_cleared_session_is_empty_and_goes_on,
                what_was_accepted_before_a_clear_goes_with_it,
                the_last_messages_are_taken_and_returned_in_their_order,
                no_two_of_many_who_take_the_last_message_get_the_same,
                replaced_messages_have_the_order_and_the_ids_of_the_list,
                an_id_of_another_session_replaces_nothing,
                another_users_messages_are_neither_removed_nor_replaced,
                a_user_removes_only_what_a_user_wrote,
                removing_what_was_not_final_leaves_the_count,
                removed_words_are_found_no_more,
            }
        }
    };
}

macro_rules! checks {
    ($($module:ident { $($check:ident,)+ })+) => {
        /// The checks of the suite. Each needs an empty setup, and panics if the behaviour that its name
        /// describes is missing.
        pub mod checks {
            $(pub use super::$module::{$($check),+};)+
        }

        /// Runs every check of the suite, each on a fresh, empty setup.
        ///
        /// # Panics
        /// If the store fails a check.
        pub async fn conformance(fresh: impl Fn() -> Setup) {
            $($(checks::$check(fresh()).await;)+)+
        }
    };
}

for_each_conformance_check!(checks);
