//! How much of a model's answer the passages support, for telemetry.

use proto::{Citation, Generation, Grounding};

/// What was written; `None` when no model wrote.
pub(crate) fn written(generation: &Generation) -> Option<Grounding> {
    let Generation { sentences, unsupported, judge, .. } = generation;
    let claims = u32::try_from(sentences.len()).unwrap_or(u32::MAX).saturating_add(*unsupported);
    let grounding =
        Grounding { claims, unsupported: *unsupported, judge: judge.clone(), ..Grounding::default() };
    Some(grounding).filter(|_| !judge.is_empty())
}

/// Adds what of it the customer gets; a sentence whose citation is none of those that stand has no support.
pub(crate) fn deliver(grounding: &mut Grounding, generation: &Generation, standing: &[Citation]) {
    let stands = |place: u32| {
        // 0 is not told, which only verbatim sentences may do.
        let cited = (place as usize).checked_sub(1).and_then(|index| generation.citations.get(index));
        cited.is_some_and(|citation| standing.contains(citation))
    };
    let unsupported = generation.sentences.iter().filter(|sentence| !stands(sentence.citation));
    grounding.delivered_claims = u32::try_from(generation.sentences.len()).unwrap_or(u32::MAX);
    grounding.delivered_unsupported = u32::try_from(unsupported.count()).unwrap_or(u32::MAX);
}

#[cfg(test)]
mod tests {
    use proto::SentenceSupport;

    use super::*;

    #[test]
    fn a_delivered_sentence_counts_as_supported_only_where_its_citation_stands() {
        let citation = |quote: &str| Citation { quote: quote.to_owned(), ..Citation::default() };
        let sentence = |citation| SentenceSupport { citation, ..SentenceSupport::default() };
        let generation = Generation {
            citations: vec![citation("a"), citation("b")],
            sentences: vec![sentence(1), sentence(2), sentence(1), sentence(0)],
            unsupported: 3,
            judge: "support/1".to_owned(),
            ..Generation::default()
        };
        let mut grounding = written(&generation).unwrap();
        deliver(&mut grounding, &generation, &[citation("a")]);
        let Grounding { claims, unsupported, delivered_claims, delivered_unsupported, .. } = grounding;
        assert_eq!((claims, unsupported, delivered_claims, delivered_unsupported), (7, 3, 4, 2));
        assert_eq!(written(&Generation { judge: String::new(), ..generation }), None);
    }
}
