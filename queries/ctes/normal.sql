-- For intervals and tests.
    -- The standard normal quantile of 1 - p, p at most 0.5 (Abramowitz and Stegun 26.2.23, error below 0.00045).
    (p) -> sqrt(-2 * log(p)) - (2.515517 + 0.802853 * sqrt(-2 * log(p)) + 0.010328 * -2 * log(p))
        / (1 + 1.432788 * sqrt(-2 * log(p)) + 0.189269 * -2 * log(p) + 0.001308 * pow(-2 * log(p), 1.5)) AS normal
