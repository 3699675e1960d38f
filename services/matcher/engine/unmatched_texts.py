"""The texts for people without a partner: for coordinators with numbers, for the member without.

The keys are the codes of reasons.
"""

from collections.abc import Mapping

NONE_REMAIN_TEXTS: Mapping[str, str] = {
    "level_gap": "nobody has the gap in seniority that the programme asks for",
    "level_gap_too_great": "the rest are further apart in seniority than the programme asks for",
    "reporting_line": "the rest are in the same reporting line",
    "same_manager": "the rest report to the same manager",
    "evaluator": "the rest judge this person's work or are judged by them",
    "earlier_partner": "the rest have been suggested before",
    "other_organisation": "the rest belong to other organisations",
    "not_acknowledged": "the rest belong to other organisations, and not both have acknowledged the notice for that",
    "no_common_language": "the rest have no language in common with this person",
    "no_common_time": "the rest have too little free time in common with this person",
    "nothing_to_learn": "none of the rest offers enough of what this person wants to learn",
    "nothing_to_give": "none of the rest wants to learn enough of what this person offers",
    "too_different": "the rest like to work too differently",
    "nobody_found": "the search found nobody with whom a pair would keep all rules and reach all floors",
}

MEMBER_TEXTS: Mapping[str, str] = {
    "nobody_on_the_other_side": "There was nobody on the other side who was ready and had a place free.",
    "level_gap": "The programme brings together people who are some levels of seniority apart, and nobody was far "
    "enough from your level.",
    "level_gap_too_great": "All who remained are further from your level of seniority than the programme asks for.",
    "reporting_line": "All who remained are in one reporting line with you, and the programme keeps that apart.",
    "same_manager": "All who remained report to the same manager as you, and the programme asks for some distance.",
    "evaluator": "With all who remained, one of you has a say in judging the other's work, and partners should be free "
    "of that.",
    "earlier_partner": "All who remained have been suggested to you before. New people may join before the next round.",
    "other_organisation": "All who remained belong to another organisation, and the programme pairs people within one.",
    "not_acknowledged": "All who remained belong to another organisation. For such a pair both need to have "
    "acknowledged the notice for it; in your enrolment you can see whether you have.",
    "no_common_language": "None of those who remained has named a language that you have named. If you speak others, "
    "add them to your profile.",
    "no_common_time": "With those who remained you have too little free time in common. If you can meet at other "
    "times, add them to your profile.",
    "nothing_to_learn": "None of those who remained offers enough of what you want to learn. The more topics you name, "
    "the more there is to find.",
    "nothing_to_give": "None of those who remained wants to learn enough of what you offer. The more topics you name "
    "that you can help with, the more there is to find.",
    "too_different": "Your way of working and that of those who remained are so far apart that a start would be hard.",
    "nobody_found": "Among those who could take part, nobody was found with whom a pair would be what the programme "
    "asks of one.",
    "changed_by_hand": "Single pairs of this round were changed by hand, and nobody who would suit you was left with "
    "a place free.",
    "places_taken": "There are people who would suit you, but the round as a whole came out best without a pair for "
    "you. That is no judgement of you, and the next round begins anew.",
}


def member_text(code: str) -> str:
    """Why the member has no partner, for this member only: no number, and nothing about anybody else."""
    return MEMBER_TEXTS[code]
