//! Newton's method for a few unknowns.

/// Steps at most; a handful suffices from a start near the end.
const STEPS: usize = 60;
/// The search ends with a step shorter than this in every unknown.
const SETTLED: f64 = 1e-6;

/// A function, its gradient and a positive definite matrix near its second derivatives, at one place.
pub struct Place<const N: usize> {
    /// The value.
    pub value: f64,
    /// The gradient.
    pub gradient: [f64; N],
    /// The matrix.
    pub curvature: [[f64; N]; N],
}

/// The place near `start` where a smooth function is lowest.
pub fn minimise<const N: usize>(start: [f64; N], function: impl Fn(&[f64; N]) -> Place<N>) -> [f64; N] {
    let mut best = start;
    let mut place = function(&best);
    for _ in 0..STEPS {
        let mut step = solve(place.curvature, place.gradient);
        loop {
            if !step.iter().any(|step| step.abs() >= SETTLED) {
                return best;
            }
            let mut next = best;
            next.iter_mut().zip(step).for_each(|(value, step)| *value -= step);
            let there = function(&next);
            if there.value <= place.value {
                (best, place) = (next, there);
                break;
            }
            step.iter_mut().for_each(|step| *step /= 2.0);
        }
    }
    best
}

/// Solves `matrix * x = right` for a positive definite matrix, so without exchanging rows.
fn solve<const N: usize>(mut matrix: [[f64; N]; N], mut right: [f64; N]) -> [f64; N] {
    for pivot in 0..N {
        for row in pivot + 1..N {
            let factor = matrix[row][pivot] / matrix[pivot][pivot];
            let above = matrix[pivot];
            matrix[row].iter_mut().zip(above).for_each(|(value, above)| *value -= factor * above);
            right[row] -= factor * right[pivot];
        }
    }
    for row in (0..N).rev() {
        let known: f64 = (row + 1..N).map(|column| matrix[row][column] * right[column]).sum();
        right[row] = (right[row] - known) / matrix[row][row];
    }
    right
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_place_is_found_where_a_whole_step_overshoots() {
        // sqrt(1 + x^2) + (x - y)^2 with a curvature for its middle: from x = 3 the first step goes too far.
        let function = |[x, y]: &[f64; 2]| {
            let (root, apart) = ((1.0 + x * x).sqrt(), x - y);
            let bend = root.powi(-3) + 2.0;
            Place {
                value: root + apart * apart,
                gradient: [x / root + 2.0 * apart, -2.0 * apart],
                curvature: [[bend, -2.0], [-2.0, 2.0]],
            }
        };
        let found = minimise([3.0, -2.0], function);
        assert!(found.iter().all(|value| value.abs() < 1e-6), "{found:?}");
    }
}
