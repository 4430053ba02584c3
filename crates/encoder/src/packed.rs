//! Vectors of one byte a value, for the many that are kept and compared.

/// Largest value of a query: its product with rows of a byte sums up within 32 bits for vectors of up to 4,096
/// values.
const QUERY_MAX: f32 = 4095.0;

/// One byte a value, and what a value of 1 stands for.
#[must_use]
pub fn pack(vector: &[f32]) -> (f32, Vec<i8>) {
    let unit = unit(vector, f32::from(i8::MAX));
    (unit, vector.iter().map(|value| (value / unit).round() as i8).collect())
}

/// A vector to compare with many packed ones.
#[derive(Debug, Clone)]
pub struct Query {
    unit: f32,
    values: Vec<i16>,
}

impl Query {
    /// Two bytes a value.
    #[must_use]
    pub fn new(vector: &[f32]) -> Self {
        let unit = unit(vector, QUERY_MAX);
        Self { unit, values: vector.iter().map(|value| (value / unit).round() as i16).collect() }
    }

    /// Values of the vector.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.values.len()
    }

    /// The product with a packed vector of the same size, by what its value of 1 stands for: the cosine of
    /// vectors of length 1.
    #[must_use]
    pub fn product(&self, unit: f32, row: &[i8]) -> f32 {
        let products =
            self.values.iter().zip(row).map(|(&query, &value)| i32::from(query) * i32::from(value));
        // Cannot overflow, and wrapping sums let the compiler take eight products at a time.
        products.fold(0, i32::wrapping_add) as f32 * self.unit * unit
    }
}

/// What 1 stands for when the largest value becomes `most`.
fn unit(vector: &[f32], most: f32) -> f32 {
    let largest = vector.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    if largest > 0.0 { largest / most } else { 1.0 }
}
