//! All examples as vectors: how dense each class is around a text, and how near the nearest example is.

/// Sharpness of the kernel `exp(BETA * cosine)`. With 10 and 30 joint models are as good.
const BETA: f32 = 20.0;
/// Centred examples, those of a class together, one byte a value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Examples {
    /// Examples of each class, at least 1.
    pub(crate) counts: Vec<u32>,
    /// One vector after the other, each of length 1 before rounding.
    pub(crate) values: Vec<i8>,
    /// What a value of 1 stands for, by example.
    pub(crate) scales: Vec<f32>,
    /// Distance of each example to the mean before it was centred.
    pub(crate) radii: Vec<f32>,
}

impl Examples {
    /// Keeps centred vectors of length 1 with their distances to the mean; every class occurs in the labels.
    pub(crate) fn new(vectors: &[Vec<f32>], radii: &[f32], labels: &[usize], classes: usize) -> Self {
        let mut order: Vec<usize> = (0..vectors.len()).collect();
        order.sort_by_key(|&index| labels[index]);
        let mut examples =
            Self { counts: vec![0; classes], values: Vec::new(), scales: Vec::new(), radii: Vec::new() };
        for index in order {
            examples.counts[labels[index]] += 1;
            let (scale, values) = encoder::pack(&vectors[index]);
            examples.values.extend(values);
            examples.scales.push(scale);
            examples.radii.push(radii[index]);
        }
        examples
    }

    /// The logarithm of the mean kernel to the examples of each class, and the highest cosine to any example
    /// before centring, for a centred vector of length 1 and its distance to the mean.
    pub(crate) fn see(&self, vector: &[f32], radius: f32) -> (Vec<f32>, f32) {
        let query = encoder::Query::new(vector);
        let rows = self.values.chunks_exact(query.dimension().max(1));
        let mut rows = rows.zip(&self.scales).zip(&self.radii);
        let mut nearest = -1.0_f32;
        let density = |&count: &u32| {
            let mut sum = 0.0;
            for ((row, &scale), other) in rows.by_ref().take(count as usize) {
                let cosine = query.product(scale, row);
                sum += (BETA * (cosine - 1.0)).exp();
                // The law of cosines: both were of length 1 before the mean was taken from them.
                let square = radius * radius + other * other - 2.0 * radius * other * cosine;
                nearest = nearest.max(1.0 - square / 2.0);
            }
            (sum / count as f32).ln() + BETA
        };
        (self.counts.iter().map(density).collect(), nearest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_a_value_changes_neither_density_nor_nearness() {
        let length = 64;
        let value = |seed: usize, place: usize| ((seed * 37 + place * 11) as f32).sin() + 0.3;
        let mut whole: Vec<Vec<f32>> =
            (0..12).map(|seed| (0..length).map(|place| value(seed, place)).collect()).collect();
        whole.iter_mut().for_each(|vector| encoder::normalise(vector));
        let mean: Vec<f32> =
            (0..length).map(|place| whole.iter().map(|vector| vector[place]).sum::<f32>() / 12.0).collect();
        let centred: Vec<(Vec<f32>, f32)> =
            whole.iter().map(|vector| crate::dense::centred(vector, &mean)).collect();
        let (vectors, radii): (Vec<_>, Vec<_>) = centred.into_iter().unzip();
        let labels: Vec<usize> = (0..12).map(|index| index % 3).collect();
        let examples = Examples::new(&vectors[1..], &radii[1..], &labels[1..], 3);
        let (density, nearest) = examples.see(&vectors[0], radii[0]);
        for (class, density) in density.iter().enumerate() {
            let own: Vec<f32> = (1..12)
                .filter(|index| labels[*index] == class)
                .map(|index| (BETA * encoder::cosine(&vectors[0], &vectors[index])).exp())
                .collect();
            let exact = (own.iter().sum::<f32>() / own.len() as f32).ln();
            assert!((density - exact).abs() < 0.1, "{class}: {density} {exact}");
        }
        let exact = (1..12).map(|index| encoder::cosine(&whole[0], &whole[index])).fold(-1.0, f32::max);
        assert!((nearest - exact).abs() < 0.01, "{nearest} {exact}");
    }
}
